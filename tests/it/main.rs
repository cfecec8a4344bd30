//! Black-box tests of the binary, by what a user sees.
