//! Kinds of values that settings have: each reads from a flag's text and from TOML, and prints
//! as it is read.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use model::Mebibytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a value of its kind.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAValue(String);

impl Display for NotAValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAValue {}

/// In TOML these are strings, in the form of the flag.
macro_rules! as_text {
    ($($kind:ty),+) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}
as_text!(Size, PortRange, Attributes);

/// `1GiB`, `512MB`, `64`: a size in MiB where no unit is given. Units are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub Mebibytes);

impl Size {
    pub const fn mebibytes(n: u64) -> Self {
        Size(Mebibytes::whole(n))
    }
}

impl FromStr for Size {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        let wrong = || NotAValue(format!("`{text}` is no size such as 512MiB or 1GiB"));
        let unit_start = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_start);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let in_mebibytes = match unit.trim().to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" => 1.0 / 1024.0,
            "" | "m" | "mb" | "mib" => 1.0,
            "g" | "gb" | "gib" => 1024.0,
            "t" | "tb" | "tib" => 1024.0 * 1024.0,
            _ => return Err(wrong()),
        };
        Mebibytes::from_f64(number * in_mebibytes)
            .filter(|size| *size > Mebibytes::ZERO)
            .map(Size)
            .ok_or_else(wrong)
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.0 {
            n if n % 1_024_000 == 0 => write!(f, "{}GiB", n / 1_024_000),
            _ => write!(f, "{}MiB", self.0),
        }
    }
}

/// `85`, of 100; in TOML a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(pub u8);

impl FromStr for Percent {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        let number: Option<u8> = text.trim_end_matches('%').trim_end().parse().ok();
        let percent = number.map(Percent::try_from);
        percent.unwrap_or_else(|| Err(NotAValue(format!("`{text}` is no percentage such as 85"))))
    }
}

impl TryFrom<u8> for Percent {
    type Error = NotAValue;

    fn try_from(number: u8) -> Result<Self, NotAValue> {
        match number {
            0..=100 => Ok(Percent(number)),
            _ => Err(NotAValue(format!("{number} is more than 100 %"))),
        }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> u8 {
        percent.0
    }
}

/// `31000-32000`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange(pub u16, pub u16);

impl FromStr for PortRange {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        text.split_once('-')
            .and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)))
            .filter(|(low, high)| 0 < *low && low <= high)
            .map(|(low, high)| PortRange(low, high))
            .ok_or_else(|| NotAValue(format!("`{text}` is no range of ports such as 31000-32000")))
    }
}

impl Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// `disk:ssd;zone:west`, as Mesos' agents take them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub BTreeMap<String, String>);

impl FromStr for Attributes {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        let pair = |part: &str| {
            part.split_once(':')
                .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                .filter(|(key, value)| !key.is_empty() && !value.is_empty())
                .ok_or_else(|| NotAValue(format!("`{part}` is no attribute such as disk:ssd")))
        };
        let parts = text.split(';').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(pair)
            .collect::<Result<_, _>>()
            .map(Attributes)
    }
}

impl Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}:{value}", if n == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

/// A list: in TOML an array, in a flag separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr<Err: Display>> FromStr for List<T> {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(|part| {
                let wrong = |error| NotAValue(format!("`{part}`: {error}"));
                part.parse().map_err(wrong)
            })
            .collect::<Result<_, _>>()
            .map(List)
    }
}

/// Which registry answers for another: in TOML a table, in a flag `HOST=REGISTRY,…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mirrors(pub BTreeMap<String, String>);

impl FromStr for Mirrors {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        let wrong = |part: &str| NotAValue(format!("`{part}` is not HOST=REGISTRY"));
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.split_once('=')
                    .map(|(host, registry)| (host.to_owned(), registry.to_owned()))
                    .ok_or_else(|| wrong(part))
            })
            .collect::<Result<_, _>>()
            .map(Mirrors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_print_as_they_are_read() {
        let cases = [
            ("1GB", "1GiB"),
            ("512", "512MiB"),
            ("1.5g", "1536MiB"),
            ("2TiB", "2048GiB"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), shown);
        }
        for text in ["", "GiB", "0", "-1", "1PB", "1 1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_ranges_lists_attributes_and_mirrors_are_read() {
        assert_eq!("85 %".parse(), Ok(Percent(85)));
        for text in ["", "%", "-1", "101", "300", "8.5"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        assert_eq!("1-2".parse(), Ok(PortRange(1, 2)));
        for text in ["2-1", "0-9", "1", "1-70000"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
        assert_eq!("1, 2".parse(), Ok(List(vec![1, 2])));
        assert!("1,x".parse::<List<u8>>().is_err());
        let attributes: Attributes = "disk:ssd; zone:a:b".parse().unwrap();
        assert_eq!(attributes.to_string(), "disk:ssd;zone:a:b");
        assert_eq!("".parse(), Ok(Attributes::default()));
        assert!("disk".parse::<Attributes>().is_err());
        let mirrors: Mirrors = "192.168.58.201:5000=10.0.15.10:5000".parse().unwrap();
        assert_eq!(mirrors.0["192.168.58.201:5000"], "10.0.15.10:5000");
    }
}
