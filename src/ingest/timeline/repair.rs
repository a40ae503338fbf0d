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
    /// The sound card ran at another pace than the publisher's clock; the sound was led back to it, inaudibly.
    AudioDrift,
    /// Audio was stamped with sums of rounded durations, which are no time; the samples were believed.
    AudioRounded,
    /// An audio frame lies before the start of the timeline and was dropped.
    BeforeStart,
    /// The publisher's clock jumped; the timeline goes on without a hole.
    Jump,
    /// Audio and video were stamped by clocks that never agreed; both were put to where they came.
    Apart,
    /// Media came before the codec's configuration and was dropped.
    BeforeConfig,
    /// An access unit was malformed (NAL unit lengths, no picture, empty) and was dropped.
    Malformed,
    /// Media of a codec that is not taken was dropped.
    Unsupported,
}

impl Repair {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::VideoEqual,
        Self::VideoBack,
        Self::Composition,
        Self::AudioGap,
        Self::AudioOverlap,
        Self::AudioDrift,
        Self::AudioRounded,
        Self::BeforeStart,
        Self::Jump,
        Self::Apart,
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
            Self::AudioDrift => "audio_drift",
            Self::AudioRounded => "audio_rounded",
            Self::BeforeStart => "before_start",
            Self::Jump => "jump",
            Self::Apart => "apart",
            Self::BeforeConfig => "before_config",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
        }
    }

    /// What happened and what was done, for the person at the encoder; where there is something to be done about it, what.
    pub fn words(self) -> &'static str {
        match self {
            Self::VideoEqual => "Two pictures had the same time; the second was moved on by a millisecond.",
            Self::VideoBack => {
                "A picture's time went back; it was moved behind the one before. The encoder writes presentation times where decoding times belong."
            }
            Self::Composition => "A picture was to be shown before it can be decoded; it is shown when it is decoded.",
            Self::AudioGap => {
                "Sound was missing; viewers hear silence for that long. The encoder or its network dropped it: see whether its computer is overloaded."
            }
            Self::AudioOverlap => "Sound came for a time that had sound already; what came second was dropped.",
            Self::AudioDrift => {
                "The sound card runs faster or slower than the computer's clock; the sound was led back to the picture, too slowly to be heard."
            }
            Self::AudioRounded => {
                "The encoder stamps sound with sums of rounded durations, which fall behind the picture; the samples were counted instead."
            }
            Self::BeforeStart => "Sound from before the first picture was dropped.",
            Self::Jump => "The encoder's clock jumped; the show went on without a hole.",
            Self::Apart => {
                "Sound and picture were stamped by different clocks; they were put together as they arrived."
            }
            Self::BeforeConfig => {
                "Pictures or sound came before their codec configuration and were dropped. Viewers see nothing until it comes: restart the encoder."
            }
            Self::Malformed => "A picture or a frame of sound was damaged and was dropped.",
            Self::Unsupported => {
                "Pictures or sound of a codec that is not taken were dropped: set the encoder to H.264 and AAC."
            }
        }
    }
}

/// How often each kind happened, and how much time it was about.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Repairs([Tally; Repair::ALL.len()]);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    count: u64,
    millis: u64,
}

impl Repairs {
    /// Counts one that was about `millis` milliseconds, whichever way; 0 where that means nothing.
    pub fn add(&mut self, kind: Repair, millis: i64) {
        if let Some(tally) = self.0.get_mut(kind as usize) {
            tally.count += 1;
            tally.millis = tally.millis.saturating_add(millis.unsigned_abs());
        }
    }

    /// How often `kind` happened.
    pub fn count(&self, kind: Repair) -> u64 {
        self.0.get(kind as usize).map_or(0, |tally| tally.count)
    }

    /// How much time it was about in all, milliseconds: sound that is missing, jumps, what pictures were moved by. 0 for kinds that have no
    /// length.
    pub fn millis(&self, kind: Repair) -> u64 {
        self.0.get(kind as usize).map_or(0, |tally| tally.millis)
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.count += theirs.count;
            mine.millis = mine.millis.saturating_add(theirs.millis);
        }
    }

    /// Nothing was repaired.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|tally| tally.count == 0)
    }
}
