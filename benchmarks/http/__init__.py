"""HTTP side by side: the same two requests to different servers, with wrk."""
