//! What an approval is good for, and what it is not.
