//! What was repaired, by kind.

/// Something in a publisher's media that had to be repaired or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Repair {
    /// A picture had the time of the one before; it was moved on by a millisecond.
    VideoEqual,
    /// A picture's time went back; it was moved behind the one before.
    VideoBack,
    /// A picture was to be presented before it is decoded.
    Composition,
    /// Audio time was ahead of the samples that came: a gap.
    AudioGap,
    /// Audio time was behind the samples that came; the frame was dropped.
    AudioOverlap,
    /// An audio frame lies before the start of the timeline and was dropped.
    BeforeStart,
    /// The publisher's clock jumped; the timeline goes on without a hole.
    Jump,
    /// Media came before the codec's configuration and was dropped.
    BeforeConfig,
    /// An access unit was malformed (NAL unit lengths, no picture, empty) and was dropped.
    Malformed,
    /// Media of a codec that is not taken was dropped.
    Unsupported,
}

impl Repair {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::VideoEqual,
        Self::VideoBack,
        Self::Composition,
        Self::AudioGap,
        Self::AudioOverlap,
        Self::BeforeStart,
        Self::Jump,
        Self::BeforeConfig,
        Self::Malformed,
        Self::Unsupported,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::VideoEqual => "video_equal",
            Self::VideoBack => "video_back",
            Self::Composition => "composition",
            Self::AudioGap => "audio_gap",
            Self::AudioOverlap => "audio_overlap",
            Self::BeforeStart => "before_start",
            Self::Jump => "jump",
            Self::BeforeConfig => "before_config",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
        }
    }

    /// What happened and what was done about it, for the person at the encoder.
    pub fn words(self) -> &'static str {
        match self {
            Self::VideoEqual => "Two pictures had the same time; the second was moved on by a millisecond.",
            Self::VideoBack => "A picture's time went back; it was moved behind the one before.",
            Self::Composition => {
                "A picture was to be shown before it could be decoded; it is shown when it is decoded."
            }
            Self::AudioGap => "Sound was missing; what follows was kept in step with the pictures.",
            Self::AudioOverlap => "More sound came than fits the time; the surplus was dropped.",
            Self::BeforeStart => "Sound from before the start of the stream was dropped.",
            Self::Jump => "The encoder's clock jumped; the stream goes on without a hole.",
            Self::BeforeConfig => "Media came before its codec was announced and was dropped.",
            Self::Malformed => "Broken pictures or sound were dropped.",
            Self::Unsupported => "Media of a codec that is not taken was dropped.",
        }
    }
}

/// How often each kind happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Repairs([u64; Repair::ALL.len()]);

impl Repairs {
    /// Counts one.
    pub fn add(&mut self, kind: Repair) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// How often `kind` happened.
    pub fn count(&self, kind: Repair) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or(0)
    }

    /// Nothing was repaired.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}
