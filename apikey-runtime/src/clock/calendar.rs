//! Days and months of the UTC calendar.

/// Returns the month, counted from January 1970, that contains `day`, counted from 1970-01-01, in
/// the proleptic Gregorian calendar.
///
/// It counts in years that start in March, so that the leap day comes last (Howard Hinnant,
/// "chrono-compatible low-level date algorithms").
pub(crate) fn month_of(day: i64) -> i64 {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    // March is month 0.
    (era * 400 + year) * 12 + month + 2 - 1970 * 12
}

/// Returns the first day of `month`, in days since 1970-01-01.
pub(crate) fn first_day_of(month: i64) -> i64 {
    let from_march = month + 1970 * 12 - 2;
    let (year, month) = (from_march.div_euclid(12), from_march.rem_euclid(12));
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn months_are_those_of_the_calendar(day in -1_000_000i64..4_000_000) {
            let month = month_of(day);
            prop_assert!(first_day_of(month) <= day && day < first_day_of(month + 1));
            prop_assert!((28..=31).contains(&(first_day_of(month + 1) - first_day_of(month))));
        }
    }

    #[test]
    fn known_months() {
        // 1970-01-01, 2000-02-29, 2000-03-01, 2026-11-22.
        for (day, month) in [(0, 0), (11_016, 361), (11_017, 362), (20_779, 682)] {
            assert_eq!(month_of(day), month, "{day}");
        }
        assert_eq!(first_day_of(682), 20_758);
    }
}
