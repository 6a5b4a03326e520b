//! Text that people write and others read: which characters it may not have.

/// What text of several lines has to be.
pub(crate) const VISIBLE_LINES: &str = "text without control characters or others that can't be seen; line feeds and tabs are kept";

/// The first character of `text` that can't be seen and changes what is: control characters (Unicode's category Cc), those that turn the direction
/// of the text around them (UAX #9, section 2), separators of lines, and those that show nothing at all. Joiners are not among them, as scripts need them.
#[must_use]
pub fn hidden(text: &str) -> Option<char> {
    text.chars().find(|character| is_hidden(*character))
}

/// The same in text of several lines, which keeps its line feeds and tabs.
#[must_use]
pub fn hidden_in_lines(text: &str) -> Option<char> {
    text.chars().find(|character| is_hidden(*character) && !matches!(character, '\n' | '\t'))
}

fn is_hidden(character: char) -> bool {
    let turns = matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separates = matches!(character, '\u{2028}' | '\u{2029}');
    let shows_nothing = matches!(character, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    character.is_control() || turns || separates || shows_nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_found() {
        for character in ['\0', '\u{7f}', '\u{85}', '\u{061c}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{2066}', '\u{2069}', '\u{feff}', '\u{e0041}'] {
            assert_eq!(hidden(&format!("a{character}b")), Some(character), "{character:?}");
            assert_eq!(hidden_in_lines(&format!("a{character}b")), Some(character), "{character:?}");
        }
        assert_eq!((hidden("a\nb"), hidden("a\tb"), hidden("a\rb")), (Some('\n'), Some('\t'), Some('\r')));
        assert_eq!((hidden_in_lines("a\n\tb"), hidden_in_lines("a\rb")), (None, Some('\r')));
    }

    #[test]
    fn what_scripts_need_is_kept() {
        for text in ["Café Núñez", "العربية", "می\u{200c}خواهم", "👩\u{200d}🚀", "क\u{094d}\u{200d}ष", "日本語", ""] {
            assert_eq!((hidden(text), hidden_in_lines(text)), (None, None), "{text}");
        }
    }
}
