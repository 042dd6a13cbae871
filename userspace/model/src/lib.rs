//! Domain nouns of the mesh, always valid.
