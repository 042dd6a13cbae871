//! Performance of the data path against no mesh, in one run.
