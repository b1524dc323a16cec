"""The roles of an aggregation (scanner, ingester, writer), and the engines that run them."""
