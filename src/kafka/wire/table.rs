//! The types that a message table may name, and the macro that reads a table.
//!
//! ```text
//! tables! {
//!     struct TopicProduceData {
//!         name: String [0..=12],
//!         topic_id: TopicId [13..],
//!         error_message: Option<String> [8..] null [10..] tag 3 = None,
//!     }          ↑ type          ↑ versions ↑ where it may be null (all)
//! }                                              ↑ tag  ↑ default (of the type)
//! ```
//!
//! A field that a version lacks is left out when it is written and has its default when it is read.
//! A null that a version cannot say is written as the empty value.

use bytes::Bytes;

use crate::model::TopicId;

use super::error::{Error, Fault};
use super::reader::Reader;
use super::records::Records;
#[cfg(test)]
use super::tests::source::Source;
use super::writer::Writer;

/// A version of one API, and whether it is flexible (compact lengths and tagged fields, KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub number: i16,
    pub flexible: bool,
}

/// A value on the wire.
pub trait Field: Sized {
    /// The fewest bytes that any value takes.
    fn min_bytes(version: Version) -> usize;

    /// `nullable` tells an `Option` whether null may be there; others take no null.
    fn decode(r: &mut Reader, version: Version, nullable: bool) -> Result<Self, Error>;

    fn encode(&self, w: &mut Writer, version: Version, nullable: bool);

    /// A value that the version can say, for tests: fields that it lacks have their defaults.
    #[cfg(test)]
    fn sample(source: &mut Source, version: Version, nullable: bool) -> Self;
}

/// A value that has a null form.
pub trait Nullable: Sized + Default {
    fn min_bytes_or_null(version: Version) -> usize;

    fn decode_or_null(r: &mut Reader, version: Version) -> Result<Option<Self>, Error>;

    fn encode_or_null(value: Option<&Self>, w: &mut Writer, version: Version);

    #[cfg(test)]
    fn sample_some(source: &mut Source, version: Version) -> Self;
}

macro_rules! integers {
    ($($integer:ident)*) => { $(
        impl Field for $integer {
            fn min_bytes(_: Version) -> usize {
                size_of::<$integer>()
            }

            fn decode(r: &mut Reader, _: Version, _: bool) -> Result<Self, Error> {
                Ok(r.$integer()?)
            }

            fn encode(&self, w: &mut Writer, _: Version, _: bool) {
                w.$integer(*self);
            }

            #[cfg(test)]
            fn sample(source: &mut Source, _: Version, _: bool) -> Self {
                source.integer() as Self
            }
        }
    )* };
}

integers! { i8 i16 i32 i64 }

impl Field for bool {
    fn min_bytes(_: Version) -> usize {
        1
    }

    fn decode(r: &mut Reader, _: Version, _: bool) -> Result<Self, Error> {
        Ok(r.i8()? != 0)
    }

    fn encode(&self, w: &mut Writer, _: Version, _: bool) {
        w.i8(i8::from(*self));
    }

    #[cfg(test)]
    fn sample(source: &mut Source, _: Version, _: bool) -> Self {
        source.below(2) == 1
    }
}

impl Field for TopicId {
    fn min_bytes(_: Version) -> usize {
        16
    }

    fn decode(r: &mut Reader, _: Version, _: bool) -> Result<Self, Error> {
        Ok(Self(r.array()?))
    }

    fn encode(&self, w: &mut Writer, _: Version, _: bool) {
        w.raw(&self.0);
    }

    #[cfg(test)]
    fn sample(source: &mut Source, _: Version, _: bool) -> Self {
        Self(std::array::from_fn(|_| source.integer() as u8))
    }
}

impl Nullable for String {
    fn min_bytes_or_null(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }

    fn decode_or_null(r: &mut Reader, version: Version) -> Result<Option<Self>, Error> {
        Ok(r.string(version.flexible)?)
    }

    fn encode_or_null(value: Option<&Self>, w: &mut Writer, version: Version) {
        w.string(value.map(String::as_str), version.flexible);
    }

    #[cfg(test)]
    fn sample_some(source: &mut Source, _: Version) -> Self {
        source.string()
    }
}

impl Nullable for Bytes {
    fn min_bytes_or_null(version: Version) -> usize {
        if version.flexible { 1 } else { 4 }
    }

    fn decode_or_null(r: &mut Reader, version: Version) -> Result<Option<Self>, Error> {
        Ok(r.bytes(version.flexible)?)
    }

    fn encode_or_null(value: Option<&Self>, w: &mut Writer, version: Version) {
        w.bytes(value.map(std::slice::from_ref), version.flexible);
    }

    #[cfg(test)]
    fn sample_some(source: &mut Source, _: Version) -> Self {
        source.string().into()
    }
}

impl Nullable for Records {
    fn min_bytes_or_null(version: Version) -> usize {
        Bytes::min_bytes_or_null(version)
    }

    fn decode_or_null(r: &mut Reader, version: Version) -> Result<Option<Self>, Error> {
        Ok(r.bytes(version.flexible)?.map(Self::from))
    }

    fn encode_or_null(value: Option<&Self>, w: &mut Writer, version: Version) {
        w.bytes(value.map(Self::parts), version.flexible);
    }

    #[cfg(test)]
    fn sample_some(source: &mut Source, _: Version) -> Self {
        Self::from(vec![source.string().into(), Bytes::from(vec![b'r'; 600])])
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn min_bytes_or_null(version: Version) -> usize {
        if version.flexible { 1 } else { 4 }
    }

    fn decode_or_null(r: &mut Reader, version: Version) -> Result<Option<Self>, Error> {
        let Some(count) = r.count(version.flexible, T::min_bytes(version))? else {
            return Ok(None);
        };
        let mut elements = Self::with_capacity(count);
        for _ in 0..count {
            elements.push(T::decode(r, version, false)?);
        }
        Ok(Some(elements))
    }

    fn encode_or_null(value: Option<&Self>, w: &mut Writer, version: Version) {
        w.count(value.map(Vec::len), version.flexible);
        for element in value.into_iter().flatten() {
            element.encode(w, version, false);
        }
    }

    #[cfg(test)]
    fn sample_some(source: &mut Source, version: Version) -> Self {
        (0..source.below(4)).map(|_| T::sample(source, version, false)).collect()
    }
}

macro_rules! never_null {
    ($([$($t:ident)?] $type:ty),*) => { $(
        impl<$($t: Field)?> Field for $type {
            fn min_bytes(version: Version) -> usize {
                Self::min_bytes_or_null(version)
            }

            fn decode(r: &mut Reader, version: Version, _: bool) -> Result<Self, Error> {
                Ok(Self::decode_or_null(r, version)?.ok_or(Fault::Null)?)
            }

            fn encode(&self, w: &mut Writer, version: Version, _: bool) {
                Self::encode_or_null(Some(self), w, version);
            }

            #[cfg(test)]
            fn sample(source: &mut Source, version: Version, _: bool) -> Self {
                Self::sample_some(source, version)
            }
        }
    )* };
}

never_null!([] String, [] Bytes, [] Records, [T] Vec<T>);

impl<T: Nullable> Field for Option<T> {
    fn min_bytes(version: Version) -> usize {
        T::min_bytes_or_null(version)
    }

    fn decode(r: &mut Reader, version: Version, nullable: bool) -> Result<Self, Error> {
        match T::decode_or_null(r, version)? {
            None if !nullable => Err(Fault::Null.into()),
            value => Ok(value),
        }
    }

    fn encode(&self, w: &mut Writer, version: Version, nullable: bool) {
        match self {
            None if !nullable => T::encode_or_null(Some(&T::default()), w, version),
            value => T::encode_or_null(value.as_ref(), w, version),
        }
    }

    #[cfg(test)]
    fn sample(source: &mut Source, version: Version, nullable: bool) -> Self {
        (!nullable || source.below(4) > 0).then(|| T::sample_some(source, version))
    }
}

macro_rules! within {
    ([$($range:tt)*] $version:expr) => { ($($range)*).contains(&$version.number) };
}

macro_rules! nullable {
    ($version:expr $(,)?) => { true };
    ($version:expr, $range:tt) => { within!($range $version) };
}

macro_rules! default_of {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// The block, with the tag under the given name; nothing for a field without a tag.
macro_rules! tagged {
    (() $name:ident $block:block) => {};
    (($tag:literal) $name:ident $block:block) => {{
        const $name: u32 = $tag;
        $block
    }};
}

macro_rules! untagged {
    () => {
        true
    };
    ($tag:literal) => {
        false
    };
}

macro_rules! tables {
    ($(
        $(#[$doc:meta])*
        struct $name:ident { $(
            $(#[$field_doc:meta])*
            $field:ident : $type:ty [ $($range:tt)* ]
                $(null $null:tt)? $(tag $tag:literal)? $(= $default:expr)?,
        )* }
    )*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $( $(#[$field_doc])* pub $field: $type, )* }

        const _: () = assert!(size_of::<$name>() <= ELEMENT_BYTES_MAX);

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: default_of!($($default)?), )* }
            }
        }

        impl Field for $name {
            fn min_bytes(version: Version) -> usize {
                let mut bytes = usize::from(version.flexible);
                $( if untagged!($($tag)?) && within!([$($range)*] version) {
                    bytes += <$type>::min_bytes(version);
                } )*
                bytes
            }

            fn decode(r: &mut Reader, version: Version, _: bool) -> Result<Self, Error> {
                let mut message = Self::default();
                $( if untagged!($($tag)?) && within!([$($range)*] version) {
                    message.$field = <$type>::decode(r, version, nullable!(version, $($null)?))
                        .map_err(|e| e.within(stringify!($name), stringify!($field)))?;
                } )*
                if version.flexible {
                    let known = |_r: &mut Reader, _tag: u32| -> Result<bool, Error> {
                        $( tagged!(($($tag)?) TAG {
                            if _tag == TAG && within!([$($range)*] version) {
                                message.$field = <$type>::decode(_r, version, true)
                                    .map_err(|e| e.within(stringify!($name), stringify!($field)))?;
                                return Ok(true);
                            }
                        }); )*
                        Ok(false)
                    };
                    r.tagged_fields(known)
                        .map_err(|e| e.within(stringify!($name), "tagged fields"))?;
                }
                Ok(message)
            }

            fn encode(&self, w: &mut Writer, version: Version, _: bool) {
                $( if untagged!($($tag)?) && within!([$($range)*] version) {
                    self.$field.encode(w, version, nullable!(version, $($null)?));
                } )*
                if version.flexible {
                    w.tagged_fields(|_tags| { $( tagged!(($($tag)?) TAG {
                        if within!([$($range)*] version) && self.$field != Self::default().$field {
                            _tags.field(TAG, |w| self.$field.encode(w, version, true));
                        }
                    }); )* });
                }
            }

            #[cfg(test)]
            fn sample(source: &mut Source, version: Version, _: bool) -> Self {
                let mut message = Self::default();
                $( if within!([$($range)*] version) {
                    let nullable = nullable!(version, $($null)?);
                    message.$field = <$type>::sample(source, version, nullable);
                } )*
                message
            }
        }

        impl Nullable for $name {
            fn min_bytes_or_null(_: Version) -> usize {
                1
            }

            fn decode_or_null(r: &mut Reader, version: Version) -> Result<Option<Self>, Error> {
                // Kafka writes 1 or -1, and reads any sign.
                if r.i8()? < 0 { Ok(None) } else { Self::decode(r, version, false).map(Some) }
            }

            fn encode_or_null(value: Option<&Self>, w: &mut Writer, version: Version) {
                w.i8(if value.is_some() { 1 } else { -1 });
                if let Some(value) = value {
                    value.encode(w, version, false);
                }
            }

            #[cfg(test)]
            fn sample_some(source: &mut Source, version: Version) -> Self {
                Self::sample(source, version, false)
            }
        }
    )* };
}

pub(super) use {default_of, nullable, tables, tagged, untagged, within};

/// What a file of tables needs: `use super::table::prelude::*`.
pub(super) mod prelude {
    pub use bytes::Bytes;

    pub use super::super::code::ErrorCode;
    pub use super::super::error::Error;
    pub use super::super::reader::{ELEMENT_BYTES_MAX, Reader};
    pub use super::super::records::Records;
    #[cfg(test)]
    pub use super::super::tests::source::Source;
    pub use super::super::writer::Writer;
    pub use super::{Field, Nullable, Version};
    pub(in super::super) use super::{default_of, nullable, tables, tagged, untagged, within};
    pub use crate::model::TopicId;
}
