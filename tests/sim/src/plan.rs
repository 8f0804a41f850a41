//! What goes wrong in the simulation of a seed, and how often.

use pelton_control::checkpoint::CheckpointSettings;
use pelton_model::barrier::BarrierMode;

use crate::chance::Chance;

/// A bug that is put in on purpose, to see that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// A task's part is acknowledged before its state file is put.
    AcknowledgeEarly,
    /// A write is answered before it outlives the power.
    ReplyEarly,
    /// Inputs do not wait for the barriers of the others.
    SkipAlignment,
    /// What was prepared for a checkpoint that failed is not in the next one.
    ForgetPrepared,
    /// State files of the checkpoint before are removed when the next is being put.
    DeleteEarly,
    /// What was prepared is committed before the entry is there.
    CommitEarly,
    /// An entry of another process under the number counts as our own.
    IgnoreFence,
    /// A put whose end nobody knows counts as done.
    AssumePut,
    /// A start does not commit what the checkpoint has that it goes on from.
    SkipRecovery,
    /// A start removes what anybody has sealed, its own successor too.
    ForgetAll,
    /// Sources stand one row before where they should.
    PositionBehind,
    /// Half of a state file is there.
    TornPut,
    /// Commits are carried out as often as they are asked for.
    CommitTwice,
    /// A task that has ended is begun anew after a restart: its last positions are not kept.
    ForgetEnded,
    /// A start removes what no entry refers to before its own entry is there.
    CollectEarly,
    /// A start removes all that is of earlier starts.
    CollectReferred,
    /// A start whose put succeeds does not look whether its number is the greatest.
    TrustPut,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::AcknowledgeEarly,
        Self::ReplyEarly,
        Self::SkipAlignment,
        Self::ForgetPrepared,
        Self::DeleteEarly,
        Self::CommitEarly,
        Self::IgnoreFence,
        Self::AssumePut,
        Self::SkipRecovery,
        Self::ForgetAll,
        Self::PositionBehind,
        Self::TornPut,
        Self::CommitTwice,
        Self::ForgetEnded,
        Self::CollectEarly,
        Self::CollectReferred,
        Self::TrustPut,
    ];
}

/// Faults and settings of a seed. Rates are per mille, but for those that say otherwise.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Crashes at most.
    pub crashes: u64,
    /// One crash in so many events of a process; 0: none.
    pub crash: u64,
    /// Processes that stand still, at most.
    pub zombies: u64,
    /// One in so many events of a process; 0: none.
    pub pause: u64,
    /// Requests that fail.
    pub fail: u64,
    /// Writes that are carried out much later than their failure is reported.
    pub late: u64,
    /// Writes that are carried out twice.
    pub twice: u64,
    /// Writes whose reply is lost.
    pub lose_reply: u64,
    /// Messages that take long.
    pub slow: u64,
    /// The others take so many nanoseconds at most.
    pub delay_max: u64,
    /// Whether the store is a folder of the machine: what is not synced goes with the power.
    pub local: bool,
    /// A state file of at most so many bytes stands in the metadata.
    pub inline_bytes: usize,
    /// The settings of checkpoints.
    pub settings: CheckpointSettings,
    /// One event of a process in so many is followed by the wish to stop it; 0: none.
    pub stop: u64,
    /// One event of a process in so many is followed by the wish for a savepoint; 0: none.
    pub save: u64,
    /// How often the job goes on from a savepoint at most.
    pub moves: u64,
    /// Writes of which a crash leaves a part.
    pub torn: u64,
    /// Starts that stand still between taking their term and running, of a thousand events.
    pub stall: u64,
    /// One event of a process in so many is followed by the start of another one beside it; 0: none.
    pub double: u64,
    /// A bug.
    pub plant: Option<Plant>,
}

impl Plan {
    /// That of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let c = Chance::new(seed ^ 0xfa17);
        let delay_max = c.one_of(&[50_000, 1_000_000, 10_000_000], 1_000_000);
        // Who gives up before a message can be there and back never has a checkpoint.
        let timeout_ms = c.one_of(&[20, 200, 10_000], 200).max(delay_max / 50_000);
        let mode = match c.between(0, 2) {
            0 | 1 => BarrierMode::Aligned,
            _ => BarrierMode::Unaligned {
                after_ms: c.one_of(&[0, 0, 1, 10], 0),
            },
        };
        let max_concurrent = c.one_of(&[1, 1, 2, 3], 1);
        Self {
            crashes: c.between(0, 8),
            crash: c.one_of(&[0, 4_000, 1_000, 300], 0),
            zombies: c.between(0, 3),
            pause: c.one_of(&[0, 0, 5_000, 1_000], 0),
            fail: c.one_of(&[0, 0, 10, 100], 0),
            late: c.one_of(&[0, 0, 10, 50], 0),
            twice: c.one_of(&[0, 0, 20], 0),
            lose_reply: c.one_of(&[0, 0, 10, 100], 0),
            slow: c.one_of(&[0, 5, 50], 0),
            delay_max,
            local: c.happens(500),
            inline_bytes: c.one_of(&[0, 300, 1 << 20], 0),
            settings: CheckpointSettings {
                interval_ms: Some(c.between(1, 30)),
                mode,
                min_pause_ms: c.one_of(&[0, 0, 5], 0),
                timeout_ms,
                max_concurrent: match mode {
                    BarrierMode::Unaligned { .. } => 1,
                    _ => max_concurrent,
                },
                tolerated_failures: match timeout_ms {
                    0..=200 => 1_000,
                    _ => c.one_of(&[0, 3, 1_000], 3),
                },
                retained: c.between(1, 3) as u32,
                ..CheckpointSettings::default()
            },
            stop: c.one_of(&[0, 0, 3_000], 0),
            save: c.one_of(&[0, 2_000, 500], 0),
            moves: c.between(0, 2),
            torn: c.one_of(&[0, 500, 900], 0),
            stall: c.one_of(&[0, 50, 200], 0),
            double: c.one_of(&[0, 3_000, 500], 0),
            plant: None,
        }
    }

    /// Nothing goes wrong from the beginning, and nothing is given up.
    #[must_use]
    pub fn undisturbed(seed: u64) -> Self {
        let plan = Self::of(seed).calm();
        Self {
            delay_max: 50_000,
            settings: CheckpointSettings {
                interval_ms: Some(20),
                ..CheckpointSettings::default()
            },
            ..plan
        }
    }

    /// The same with a bug.
    #[must_use]
    pub fn with(mut self, plant: Option<Plant>) -> Self {
        self.plant = plant;
        if plant == Some(Plant::SkipAlignment) {
            self.settings.mode = BarrierMode::AtLeastOnce;
        }
        self
    }

    /// The same without faults.
    #[must_use]
    pub fn calm(self) -> Self {
        Self {
            crashes: 0,
            crash: 0,
            zombies: 0,
            pause: 0,
            fail: 0,
            late: 0,
            twice: 0,
            lose_reply: 0,
            slow: 0,
            stop: 0,
            save: 0,
            moves: 0,
            torn: 0,
            stall: 0,
            double: 0,
            ..self
        }
    }
}
