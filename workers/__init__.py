"""The roles of an aggregation (scanner, ingester, writer) and the processes around them."""
