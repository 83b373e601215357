//! Which partition is to grow, as a template declares it.

use crate::FieldProblem;

/// The number of a partition: what no GUID partition table that is read here has is refused.
///
/// # Errors
/// The problem, in words.
pub fn partition_number(text: Option<&str>) -> Result<Option<u32>, Vec<FieldProblem>> {
    let Some(text) = text else { return Ok(None) };
    let number = text.parse::<u32>().ok();
    match number.filter(|number| (1..=MAX_PARTITION_NUMBER).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => {
            let short: String = text.chars().take(64).collect();
            Err(vec![FieldProblem {
                variable: "PARTITION",
                message: format!(
                    "partition {short:?} is none: write its number, 1 to {MAX_PARTITION_NUMBER}, or leave it out"
                ),
            }])
        }
    }
}

/// A table with more entries is taken for garbage.
pub const MAX_PARTITION_NUMBER: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_a_partition_is_one_of_1024() {
        assert_eq!(partition_number(None), Ok(None));
        assert_eq!(partition_number(Some("3")), Ok(Some(3)));
        assert_eq!(partition_number(Some("1024")), Ok(Some(1024)));
        for wrong in ["0", "1025", "-1", "p3", "", "1.0", "99999999999"] {
            let problems = partition_number(Some(wrong)).unwrap_err();
            assert!(problems[0].message.contains("1 to 1024"), "{wrong}");
        }
    }
}
