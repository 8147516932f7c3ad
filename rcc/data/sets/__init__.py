"""Load published data sets, and sets in the common layouts, as disjoint splits."""
