//! What a step found: how many checks passed, and each that did not.

/// The outcome of one step.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Checks that passed.
    pub(crate) passed: usize,
    /// Each check that failed, in a sentence or more.
    pub(crate) failures: Vec<String>,
    /// What a reader should know although it is no failure, such as a part that cannot run on this machine.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Counts one check.
    pub(crate) fn check(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(failure) => self.failures.push(failure),
        }
    }

    /// Adds what another part of the same step found.
    pub(crate) fn merge(&mut self, other: Report) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.notes.extend(other.notes);
    }
}
