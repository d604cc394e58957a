"""A demonstration on one machine: services, a local Guard backend, traffic, a ban, and what arrives (`tour`)."""
