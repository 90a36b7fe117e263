"""Side by side with other frameworks, on one RabbitMQ: `uv run python -m benchmarks`."""
