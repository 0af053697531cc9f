"""What a decision costs over HTTP, beside Ray's own routers: `/internal/route`, asked as HAProxy asks it."""
