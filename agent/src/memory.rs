//! How much memory the machine has, and how much of it is left.
//!
//! Source: proc_meminfo(5).

/// Memory as the kernel counts it, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What the kernel has to give: without its own code, and without what firmware keeps.
    pub(crate) total_kib: u64,
    /// What new programs can have before something has to be given up.
    pub(crate) available_kib: u64,
}

impl Memory {
    /// That of this machine, now; zeros where the kernel does not say.
    pub(crate) fn now() -> Memory {
        Memory::of(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn of(meminfo: &str) -> Memory {
        let kib = |name: &str| {
            let mut lines = meminfo.lines().filter_map(|line| line.split_once(':'));
            let value = lines.find_map(|(key, value)| (key == name).then_some(value));
            value
                .and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok())
                .unwrap_or_default()
        };
        Memory {
            total_kib: kib("MemTotal"),
            available_kib: kib("MemAvailable"),
        }
    }

    /// What is left, in bytes.
    pub(crate) fn available_bytes(self) -> u64 {
        self.available_kib.saturating_mul(1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says() {
        let text = "MemTotal:        1000 kB\nMemFree:  10 kB\nMemAvailable:     400 kB\n";
        let memory = Memory::of(text);
        assert_eq!((memory.total_kib, memory.available_kib), (1000, 400));
        assert_eq!(memory.available_bytes(), 400 << 10);
        for rubbish in [
            "",
            "MemAvailable: much kB\n",
            "MemAvailable: 99999999999999999999 kB\n",
        ] {
            assert_eq!(Memory::of(rubbish), Memory::default(), "{rubbish:?}");
        }
        let here = Memory::now();
        assert!(
            here.available_kib > 0 && here.available_kib <= here.total_kib,
            "{here:?}"
        );
    }
}
