//! Why bytes are not a message, and where.

use std::fmt;

/// What was wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the frame ends {0} bytes short")]
    Short(usize),
    #[error("{count} elements cannot be in the {remaining} bytes that remain")]
    Count { count: usize, remaining: usize },
    #[error("more array elements than one frame may have")]
    Elements,
    #[error("length {0} is negative")]
    Negative(i32),
    #[error("null where none may be")]
    Null,
    #[error("a string of {0} bytes; {max} are the most", max = super::reader::STRING_BYTES_MAX)]
    StringLength(usize),
    #[error("{0} bytes in one field are more than 2^31 - 1")]
    BytesLength(usize),
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("a variable-length integer does not end")]
    Varint,
    #[error("a tagged field leaves {0} of its bytes unread")]
    Tag(usize),
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    #[error("version {0} is not served")]
    UnsupportedVersion(i16),
}

/// A fault and its place: the API, the structure of its table and the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    pub fault: Fault,
    /// `Produce request`, `header`; empty before a message is known.
    pub message: &'static str,
    /// The structure's name in the tables; empty outside of one.
    pub structure: &'static str,
    /// The field's name in the tables; empty outside of one.
    pub field: &'static str,
}

impl Error {
    /// Names the place, unless a deeper one is named already.
    pub(super) fn within(mut self, structure: &'static str, field: &'static str) -> Self {
        if self.structure.is_empty() {
            (self.structure, self.field) = (structure, field);
        }
        self
    }

    pub(super) fn of(mut self, message: &'static str) -> Self {
        self.message = message;
        self
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self { fault, message: "", structure: "", field: "" }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.message.is_empty() {
            write!(f, "{}: ", self.message)?;
        }
        if !self.structure.is_empty() {
            write!(f, "{}.{}: ", self.structure, self.field)?;
        }
        self.fault.fmt(f)
    }
}

impl std::error::Error for Error {}
