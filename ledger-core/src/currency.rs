//! Currencies: how finely money in them can be paid (ISO 4217).

use iso_currency::Currency;

/// Whether `code` is in the table of ISO 4217.
#[must_use]
pub fn is_known(code: &str) -> bool {
    Currency::from_code(code).is_some()
}

/// How many decimals the minor unit of the currency `code` has; none where there is no minor unit (gold, or an unknown code).
#[must_use]
pub fn decimals(code: &str) -> Option<u32> {
    Currency::from_code(code).and_then(|currency| currency.exponent()).map(u32::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_are_those_of_iso_4217() {
        for code in "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(' ') {
            assert_eq!(decimals(code), Some(0), "{code}");
        }
        for code in "AED BGN CHF EUR GBP HUF IDR MGA MRU TRY USD VES XCG ZWG".split(' ') {
            assert_eq!(decimals(code), Some(2), "{code}");
        }
        for code in "BHD IQD JOD KWD LYD OMR TND".split(' ') {
            assert_eq!(decimals(code), Some(3), "{code}");
        }
        assert_eq!((decimals("CLF"), decimals("UYW")), (Some(4), Some(4)));
        assert_eq!((decimals("XAU"), is_known("XAU")), (None, true), "gold has no minor unit");
        for code in ["ZZZ", "usd", "US", ""] {
            assert_eq!((decimals(code), is_known(code)), (None, false), "{code}");
        }
    }
}
