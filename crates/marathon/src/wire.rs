//! Reading JSON values with every type fault named by its path, and writing them again.
//!
//! serde's derive stops at the first fault and does not say where it was; Marathon names them
//! all. `null` is the same as absent, and unknown keys are ignored, as Marathon does, but told of.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Number, Value};

use crate::fault::Faults;

/// Where in a body a value stands: `/container/portMappings(0)/hostPort`.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Root,
    Key(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(parent, key) => write!(f, "{parent}/{key}"),
            Self::Item(parent, index) => write!(f, "{parent}({index})"),
        }
    }
}

impl Place<'_> {
    pub(crate) fn expected(&self, what: &str, faults: &mut Faults) {
        let path = match self {
            Self::Root => "/".to_owned(),
            _ => self.to_string(),
        };
        faults.at(path, format!("error.expected.{what}"));
    }
}

/// A shape that JSON can have.
pub(crate) trait Wire: Sized {
    /// `None` after a fault has been noted.
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self>;
    fn write(&self) -> Value;
}

/// A shape of fields that may each be absent.
pub(crate) trait Record: Wire {
    /// This, with what `newer` gives in place of its own.
    fn overlaid(self, newer: Self) -> Self;
}

impl Wire for String {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        let text = value.as_str();
        if text.is_none() {
            at.expected("jsstring", faults);
        }
        text.map(str::to_owned)
    }

    fn write(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Wire for bool {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        if value.as_bool().is_none() {
            at.expected("jsboolean", faults);
        }
        value.as_bool()
    }

    fn write(&self) -> Value {
        Value::Bool(*self)
    }
}

/// Marathon's integers have 32 bits; `2.0` is one.
impl Wire for i32 {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        let Value::Number(number) = value else {
            at.expected("jsnumber", faults);
            return None;
        };
        let whole = number.as_i64().or_else(|| {
            number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
                .map(|n| n as i64)
        });
        let read = whole.and_then(|n| i32::try_from(n).ok());
        if read.is_none() {
            at.expected("int", faults);
        }
        read
    }

    fn write(&self) -> Value {
        Value::from(*self)
    }
}

/// Whole numbers are written without a fraction.
impl Wire for f64 {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        if value.as_f64().is_none() {
            at.expected("jsnumber", faults);
        }
        value.as_f64()
    }

    fn write(&self) -> Value {
        if self.fract() == 0.0 && self.abs() < 1e15 {
            Value::from(*self as i64)
        } else {
            Number::from_f64(*self).map_or(Value::Null, Value::Number)
        }
    }
}

/// What is kept as it came.
impl Wire for Value {
    fn read(value: &Value, _: Place<'_>, _: &mut Faults) -> Option<Self> {
        Some(value.clone())
    }

    fn write(&self) -> Value {
        self.clone()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        let Value::Array(items) = value else {
            at.expected("jsarray", faults);
            return None;
        };
        Some(
            items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| T::read(item, Place::Item(&at, index), faults))
                .collect(),
        )
    }

    fn write(&self) -> Value {
        self.iter().map(T::write).collect()
    }
}

impl<T: Wire> Wire for BTreeMap<String, T> {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        let Value::Object(entries) = value else {
            at.expected("jsobject", faults);
            return None;
        };
        Some(
            entries
                .iter()
                .filter_map(|(key, item)| {
                    let read = T::read(item, Place::Key(&at, key), faults)?;
                    Some((key.clone(), read))
                })
                .collect(),
        )
    }

    fn write(&self) -> Value {
        Value::Object(
            self.iter()
                .map(|(key, item)| (key.clone(), item.write()))
                .collect(),
        )
    }
}

/// Reads `key` of an object; `None` when absent, null, or of a wrong type.
pub(crate) fn field<T: Wire>(
    object: &Map<String, Value>,
    key: &str,
    at: &Place<'_>,
    faults: &mut Faults,
) -> Option<T> {
    match object.get(key) {
        None | Some(Value::Null) => None,
        Some(value) => T::read(value, Place::Key(at, key), faults),
    }
}

/// Tells of what an object has besides the keys that are `known` and those that are `passed` over.
pub(crate) fn unknown(
    object: &Map<String, Value>,
    (known, passed): (&[&str], &[&str]),
    at: Place<'_>,
    faults: &mut Faults,
) {
    for (key, value) in object {
        let fits = |name: &&str| name == key;
        if !value.is_null() && !known.iter().chain(passed).any(fits) {
            faults.unknown(at, key, known);
        }
    }
}

/// An object whose fields may each be absent: its struct, reader and writer. `passes_over` names
/// keys that mean nothing here and are not worth a word.
macro_rules! record {
    (
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $kind:ty = $key:literal,)* }
        $(passes_over [$($passed:literal),* $(,)?])?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(crate) struct $name {
            $(pub(crate) $field: Option<$kind>,)*
        }

        impl $crate::wire::Wire for $name {
            fn read(
                value: &serde_json::Value,
                at: $crate::wire::Place<'_>,
                faults: &mut $crate::fault::Faults,
            ) -> Option<Self> {
                let serde_json::Value::Object(object) = value else {
                    at.expected("jsobject", faults);
                    return None;
                };
                let keys: (&[&str], &[&str]) = (&[$($key),*], &[$($($passed),*)?]);
                $crate::wire::unknown(object, keys, at, faults);
                Some(Self {
                    $($field: $crate::wire::field(object, $key, &at, faults),)*
                })
            }

            fn write(&self) -> serde_json::Value {
                let mut object = serde_json::Map::new();
                $(if let Some(value) = &self.$field {
                    object.insert($key.to_owned(), $crate::wire::Wire::write(value));
                })*
                serde_json::Value::Object(object)
            }
        }

        impl $crate::wire::Record for $name {
            fn overlaid(self, newer: Self) -> Self {
                Self { $($field: newer.$field.or(self.$field),)* }
            }
        }
    };
}
pub(crate) use record;
