"""What a decision costs over HTTP, compared with Ray's own routers: `/internal/route`, asked as HAProxy asks it."""
