//! What a section of the configuration is, and the macro that makes one of a list of keys.

use serde_json::{Map, Value as Json, json};

use super::read::{Reading, Table};

/// Who reads what is written of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Its owner, who gets what could have been written.
    Owner,
    /// Whoever gets a bundle, or sees the status: not what may be a secret.
    Anybody,
}

/// A section's description.
pub(super) struct About {
    pub name: &'static str,
    pub text: &'static str,
    /// Name, meaning and JSON Schema of each key, in the order of the documentation.
    pub keys: Vec<(&'static str, String, Json)>,
}

impl About {
    /// JSON Schema of the section's table.
    pub(super) fn schema(self, required: &[&str]) -> Json {
        let mut properties = Map::new();
        for (name, text, mut schema) in self.keys {
            schema["description"] = json!(text);
            properties.insert(name.to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object",
            "description": self.text,
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }
}

/// A table of the configuration with a fixed set of keys.
pub(super) trait Section: Sized {
    const NAME: &'static str;
    const KEYS: &'static [&'static str];
    fn about() -> About;
    /// Reports every key that is wrong, and gives it the value of `default`; none without one.
    fn read(table: &Table<'_>, reading: &mut Reading<'_>, default: Option<&Self>) -> Option<Self>;
    /// Key and value, in the order of the documentation.
    fn write(&self, reader: Reader) -> Vec<(&'static str, toml::Value)>;
}

/// A section of its keys, each with its meaning, its type and how it is read, shown and described: a struct of
/// its own, or `impl` for a type of another room.
macro_rules! section {
    ($(#[doc = $about:literal])+ $name:literal $Section:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $Type:ty = $kind:expr;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Section { $($(#[doc = $doc])+ pub $field: $Type,)+ }

        section! {
            $(#[doc = $about])+
            impl $name $Section { $($(#[doc = $doc])+ $field: $Type = $kind;)+ }
        }
    };
    // For a type that another room owns.
    ($(#[doc = $about:literal])+ impl $name:literal $Section:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $Type:ty = $kind:expr;)+
    }) => {
        impl Section for $Section {
            const NAME: &'static str = $name;
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn about() -> About {
                About {
                    name: $name,
                    text: concat!($($about),+).trim_ascii(),
                    keys: vec![$((
                        stringify!($field),
                        [$($doc.trim()),+].join(" "),
                        $kind.schema(),
                    )),+],
                }
            }

            fn read(table: &Table<'_>, reading: &mut Reading<'_>, default: Option<&Self>) -> Option<Self> {
                // All keys are read before any of them gives up, so that all problems show.
                $(let $field = read_key(&$kind, table, stringify!($field), reading)
                    .or_else(|| default.map(|all| all.$field.clone()));)+
                Some(Self { $($field: $field?),+ })
            }

            fn write(&self, reader: Reader) -> Vec<(&'static str, toml::Value)> {
                vec![$((stringify!($field), match reader {
                    Reader::Owner => $kind.write(&self.$field),
                    Reader::Anybody => $kind.show(&self.$field),
                })),+]
            }
        }
    };
}

pub(super) use section;
