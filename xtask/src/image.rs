//! Container images from scratch.

mod archive;

pub(crate) use archive::Image;
