"""A demonstration on one machine: two services, a local Guard backend, traffic, a ban, and what arrives (`tour`)."""
