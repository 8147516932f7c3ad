"""Compress by methods that are each a lifecycle around pure functions of `rcc.ops`."""
