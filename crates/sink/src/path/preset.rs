//! Layouts of other sinks under a name: a path template, and what the files are like there unless the settings say otherwise.

/// A layout of another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What is written in place of a template.
    pub name: &'static str,
    /// Whose layout it is.
    pub about: &'static str,
    /// The template for one literal topic.
    pub path_of_one: &'static str,
    /// The template for several topics.
    pub path_of_many: &'static str,
    /// Keys of `format` that the preset sets unless the settings do.
    pub format: &'static [(&'static str, &'static str)],
    /// Extension before that of the compression, as `json` for `json.gz`, unless `format` or the settings name one.
    pub base_extension: Option<&'static str>,
}

/// All presets.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "zooz",
        about: "Zooz' kafka-s3-connector",
        path_of_one: "date={timestamp:%Y-%m-%d}/hour={timestamp:%H}/{partition}_{offset}",
        path_of_many: "{topic}/date={timestamp:%Y-%m-%d}/hour={timestamp:%H}/{partition}_{offset}",
        format: &[],
        base_extension: Some("json"),
    },
    Preset {
        name: "deviantart",
        about: "DeviantArt's kafka-connect-s3",
        path_of_one: "{now:%Y-%m-%d}/{topic}-{partition:05}-{offset:012}",
        path_of_many: "{now:%Y-%m-%d}/{topic}-{partition:05}-{offset:012}",
        format: &[("type", "text"), ("compression", "gzip"), ("extension", "gz"), ("index", "side_file")],
        base_extension: None,
    },
    Preset {
        name: "delta_connector",
        about: "Kafka S3 Delta Lake Connector",
        path_of_one: "{topic}/year={timestamp:%Y}/month={timestamp:%m}/day={timestamp:%d}/{partition}_{offset}",
        path_of_many: "{topic}/year={timestamp:%Y}/month={timestamp:%m}/day={timestamp:%d}/{partition}_{offset}",
        format: &[("compression", "none")],
        base_extension: Some("jsonl"),
    },
];

impl Preset {
    /// The preset called `name`.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Its template.
    pub fn path(&self, single_topic: bool) -> &'static str {
        if single_topic { self.path_of_one } else { self.path_of_many }
    }
}
