"""Ban lists of others, by URL: fetched, read within bounds, and handed out apart from the operator's own bans."""
