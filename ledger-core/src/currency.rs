//! Currencies: the codes of ISO 4217 and the decimals of their minor units.

/// Codes by the number of decimals of their minor unit. The Bulgarian lev and the Antillean guilder ended in 2026 and 2025; purchases from before are still booked.
/// Metals, funds' units of account and the codes for tests (XAU, XDR, XTS, XXX …) have no minor unit, and nobody pays in them.
const BY_DIGITS: [(u32, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP \
         CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK \
         LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD \
         RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG \
         YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// How many decimals the minor unit of the currency `code` has; none where ISO 4217 knows no such money.
#[must_use]
pub fn minor_digits(code: &str) -> Option<u32> {
    // Each purchase asks: codes of three letters and a space are compared where they stand.
    let digits = BY_DIGITS.iter().find(|(_, codes)| codes.as_bytes().chunks(4).any(|known| known.get(..3) == Some(code.as_bytes())));
    digits.map(|(digits, _)| *digits)
}

#[cfg(test)]
mod tests {
    use super::{BY_DIGITS, minor_digits};

    #[test]
    fn money_has_the_minor_unit_of_iso_4217() {
        let wanted = [("USD", 2), ("GBP", 2), ("EUR", 2), ("VND", 0), ("JPY", 0), ("CLP", 0), ("KWD", 3), ("TND", 3), ("CLF", 4), ("MGA", 2), ("HUF", 2)];
        for (code, digits) in wanted {
            assert_eq!(minor_digits(code), Some(digits), "{code}");
        }
    }

    #[test]
    fn what_is_no_money_is_unknown() {
        for code in ["ZZZ", "XXX", "XAU", "XTS", "usd", "US", "USD ", "", "USD EUR", "DEM"] {
            assert_eq!(minor_digits(code), None, "{code:?}");
        }
    }

    #[test]
    fn every_code_is_three_capital_letters_and_stands_once() {
        let mut codes: Vec<&str> = BY_DIGITS.iter().flat_map(|(_, codes)| codes.split_ascii_whitespace()).collect();
        assert!(codes.iter().all(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())));
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }
}
