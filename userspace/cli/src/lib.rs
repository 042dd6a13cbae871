//! What a person's commands show.
