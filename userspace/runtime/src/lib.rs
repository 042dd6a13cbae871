//! Supervised tasks, drain, shutdown, backoff.
