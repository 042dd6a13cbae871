//! The hooks' decisions as pure functions.
