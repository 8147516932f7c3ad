"""The compression methods: each a lifecycle around pure functions of `rcc.ops`."""
