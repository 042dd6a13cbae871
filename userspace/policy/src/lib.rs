//! The one meaning of authorization.
