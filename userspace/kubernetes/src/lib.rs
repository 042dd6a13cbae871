//! Kubernetes objects to Snapshot: manifests directory, our kinds, validation.
