//! How a disk can be erased, by what it says of itself, and which way is taken. Pure.

use partitions::Method;

/// What a disk says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    Nvme {
        /// Identify Controller: 4096 bytes.
        controller: Vec<u8>,
        /// Of active namespaces, in order.
        namespaces: Vec<u32>,
    },
    /// IDENTIFY DEVICE: 512 bytes.
    Ata(Vec<u8>),
    /// It has no commands to erase it, or there is no way to ask: a partition, a file, a disk of a virtual machine.
    Nothing(String),
}

/// Of a disk's security feature set. Source: ACS-3, section 7.12.6.81 (word 128).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtaSecurity {
    pub supported: bool,
    /// A password is set.
    pub enabled: bool,
    pub locked: bool,
    pub frozen: bool,
    /// Too many wrong passwords since it was turned on.
    pub expired: bool,
    pub enhanced: bool,
    /// How long an erase takes, in minutes; 0: it does not say.
    pub minutes: u32,
    pub enhanced_minutes: u32,
}

impl AtaSecurity {
    pub fn read(identify: &[u8]) -> AtaSecurity {
        let word = |number: usize| {
            let bytes = identify
                .get(2 * number..)
                .and_then(|rest| rest.first_chunk::<2>());
            bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
        };
        let is_set = |bit: u16| word(128) & (1 << bit) != 0;
        // Source: ACS-3, words 89 and 90: in units of two minutes; the highest bit says that 15 bits count instead of 8.
        let minutes = |number| {
            let value = word(number);
            let mask = if value & 0x8000 != 0 { 0x7fff } else { 0xff };
            2 * u32::from(value & mask)
        };
        AtaSecurity {
            supported: is_set(0) && word(82) & 2 != 0,
            enabled: is_set(1),
            locked: is_set(2),
            frozen: is_set(3),
            expired: is_set(4),
            enhanced: is_set(5),
            minutes: minutes(89),
            enhanced_minutes: minutes(90),
        }
    }
}

/// Why a disk has not this method; `None`: it has.
pub fn lacks(method: Method, says: &Says) -> Option<String> {
    let no = |why: &str| Some(why.to_owned());
    match (method, says) {
        (Method::Overwrite | Method::ZeroOut | Method::Discard, _) => None,
        (_, Says::Nothing(why)) => Some(why.clone()),
        (Method::AtaErase | Method::AtaEnhancedErase, Says::Ata(identify)) => {
            let security = AtaSecurity::read(identify);
            if !security.supported {
                no("it has no security commands")
            } else if method == Method::AtaEnhancedErase && !security.enhanced {
                no("it erases in the simple way only")
            } else if security.frozen {
                no(
                    "the firmware of the machine has frozen its security: turn the machine off and on, or suspend it once",
                )
            } else if security.expired {
                no("it has been given too many wrong passwords: turn it off and on")
            } else {
                None
            }
        }
        (Method::AtaErase | Method::AtaEnhancedErase, Says::Nvme { .. }) => no("it is no ATA disk"),
        (_, Says::Ata(_)) => no("it is no NVMe disk"),
        (
            _,
            Says::Nvme {
                controller,
                namespaces,
            },
        ) => lacks_nvme(method, controller, namespaces),
    }
}

/// Source: NVM Express base specification 2.0, figure 275 (OACS, SANICAP, FNA).
fn lacks_nvme(method: Method, controller: &[u8], namespaces: &[u32]) -> Option<String> {
    let byte = |at: usize| controller.get(at).copied().unwrap_or(0);
    let (oacs, sanicap, fna) = (byte(256), byte(328), byte(524));
    let has = match method {
        Method::SanitizeCrypto => sanicap & 1 != 0,
        Method::SanitizeBlock => sanicap & 2 != 0,
        Method::Format => oacs & 2 != 0,
        _ => oacs & 2 != 0 && fna & 4 != 0,
    };
    let takes_all = match method {
        Method::SanitizeCrypto | Method::SanitizeBlock => true,
        _ => fna & 3 != 0,
    };
    if !has {
        return Some("its controller does not say that it can".to_owned());
    }
    if takes_all && namespaces.len() > 1 {
        let numbers: Vec<String> = namespaces.iter().take(16).map(u32::to_string).collect();
        return Some(format!(
            "it would erase all namespaces of the disk: {}",
            numbers.join(", ")
        ));
    }
    None
}

/// `format, overwrite, zero-out, discard; not sanitize-block (its controller …)`
pub fn described(says: &Says) -> String {
    let (mut has, mut has_not) = (Vec::new(), Vec::new());
    for method in Method::ALL {
        match lacks(method, says) {
            None => has.push(method.name().to_owned()),
            Some(why) => has_not.push(format!("{method} ({why})")),
        }
    }
    format!("{}; not {}", has.join(", "), has_not.join(", "))
}

/// The way to take. `None` asked for: the first that the disk has.
///
/// # Errors
/// Why the disk has not the one that is asked for.
pub fn choose(asked: Option<Method>, says: &Says) -> Result<Method, String> {
    match asked {
        Some(method) => match lacks(method, says) {
            None => Ok(method),
            Some(why) => Err(why),
        },
        None => {
            let first = Method::ALL
                .into_iter()
                .find(|method| lacks(*method, says).is_none());
            Ok(first.unwrap_or(Method::Overwrite))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nvme(oacs: u8, sanicap: u8, fna: u8, namespaces: &[u32]) -> Says {
        let mut controller = vec![0; 4096];
        (controller[256], controller[328], controller[524]) = (oacs, sanicap, fna);
        Says::Nvme {
            controller,
            namespaces: namespaces.to_vec(),
        }
    }

    fn ata(word_128: u16) -> Says {
        let mut identify = vec![0; 512];
        identify[2 * 82] = 2;
        identify[256..258].copy_from_slice(&word_128.to_le_bytes());
        identify[2 * 89..2 * 89 + 2].copy_from_slice(&0x8100_u16.to_le_bytes());
        identify[2 * 90] = 5;
        Says::Ata(identify)
    }

    #[test]
    fn the_strongest_that_a_disk_has_is_taken() {
        for (says, want) in [
            (nvme(2, 3, 4, &[1]), Method::SanitizeBlock),
            (nvme(2, 1, 4, &[1]), Method::SanitizeCrypto),
            (nvme(2, 0, 4, &[1]), Method::Format),
            (nvme(0, 0, 4, &[1]), Method::Overwrite),
            (ata(0x21), Method::AtaEnhancedErase),
            (ata(0x01), Method::AtaErase),
            (Says::Nothing("it is a partition".to_owned()), Method::Overwrite),
            // What it says is cut off: it has said nothing.
            (Says::Ata(vec![0xff; 40]), Method::Overwrite),
        ] {
            assert_eq!(choose(None, &says), Ok(want), "{says:?}");
        }
    }

    #[test]
    fn what_would_erase_more_than_this_disk_is_not_taken() {
        let shared = nvme(2, 3, 4, &[1, 2]);
        assert_eq!(choose(None, &shared), Ok(Method::Format));
        let why = choose(Some(Method::SanitizeBlock), &shared).unwrap_err();
        assert!(why.contains("all namespaces of the disk: 1, 2"), "{why}");
        assert_eq!(choose(None, &nvme(2, 3, 6, &[1, 2])), Ok(Method::Overwrite));
    }

    #[test]
    fn a_frozen_disk_says_what_helps() {
        let frozen = ata(0x29);
        assert_eq!(choose(None, &frozen), Ok(Method::Overwrite));
        let why = choose(Some(Method::AtaErase), &frozen).unwrap_err();
        assert!(why.contains("turn the machine off and on"), "{why}");
        let said = described(&frozen);
        assert!(
            said.starts_with("overwrite, zero-out, discard; not sanitize-block (it is no NVMe disk)"),
            "{said}"
        );
        let Says::Ata(identify) = ata(0x21) else {
            unreachable!()
        };
        let security = AtaSecurity::read(&identify);
        assert_eq!((security.minutes, security.enhanced_minutes), (512, 10));
    }
}
