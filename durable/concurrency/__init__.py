"""Steps side by side: asyncio branches, submitted tasks, executors, generators."""
