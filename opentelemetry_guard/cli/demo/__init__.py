"""A demonstration on one machine: a shop, a local Guard backend, traffic, and what arrives (`tour`)."""
