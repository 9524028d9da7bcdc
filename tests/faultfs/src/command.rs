//! What a check may order: one command a line, by the disk's number in the order of the mounts, from 1.

/// Of one disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// The power goes; the seed says what survives of what was not synced, 0 nothing.
    Cut { seed: u64 },
    /// The power is back.
    On,
    /// Syncs fail with EIO from now on.
    FailSyncs,
    /// Syncs work again; what failed ones were to write stays lost.
    MendSyncs,
    /// Room for so many more bytes.
    Leave { bytes: u64 },
    /// As much room as at first.
    LeaveAll,
    /// How many syncs have failed.
    FailedSyncs,
}

/// The disk's number and what to do with it; `None` if the line is no command.
pub fn parse(line: &str) -> Option<(usize, Command)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let command = match words.get(1..)? {
        ["cut", seed] => Command::Cut { seed: seed.parse().ok()? },
        ["on"] => Command::On,
        ["fail-syncs"] => Command::FailSyncs,
        ["mend-syncs"] => Command::MendSyncs,
        ["leave", bytes] => Command::Leave { bytes: bytes.parse().ok()? },
        ["leave-all"] => Command::LeaveAll,
        ["failed-syncs"] => Command::FailedSyncs,
        _ => return None,
    };
    Some((words[0].parse().ok()?, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_or_refused() {
        assert_eq!(parse("3 cut 17"), Some((3, Command::Cut { seed: 17 })));
        assert_eq!(parse("1 leave 4096"), Some((1, Command::Leave { bytes: 4096 })));
        assert_eq!(parse("2 fail-syncs"), Some((2, Command::FailSyncs)));
        for wrong in ["", "3", "cut 17", "3 cut", "3 cut x", "3 cut 1 2", "x on", "3 explode"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
