use proptest::prelude::*;

use super::*;

#[test]
fn equivalent_paths_have_one_normal_form() {
    for (path, normal) in [
        ("", "/"),
        ("*", "*"),
        ("/", "/"),
        ("/a/b/", "/a/b/"),
        ("/%61dmin", "/admin"),
        ("/%7euser", "/~user"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/aé", "/a%C3%A9"),
        ("/{a}|\"", "/%7Ba%7D%7C%22"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/../../a", "/a"),
        ("/...", "/..."),
        ("/a//../b", "/a/b"),
        ("/a//b", "/a//b"),
        ("/a%2fb%5cc", "/a%2Fb%5Cc"),
        ("/a:@!$&'()*+,;=-._~", "/a:@!$&'()*+,;=-._~"),
        ("/%252e%252e/a", "/%252e%252e/a"),
    ] {
        assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
    }
}

#[test]
fn a_path_without_an_agreed_meaning_is_refused() {
    for (path, why) in [
        ("a", PathError::NotAbsolute),
        ("/%", PathError::BadEscape),
        ("/%4", PathError::BadEscape),
        ("/%zz", PathError::BadEscape),
        ("/%+1", PathError::BadEscape),
        ("/a%00", PathError::Nul),
        ("/a\\..\\b", PathError::Backslash),
    ] {
        assert_eq!(normalise(path), Err(why), "{path}");
    }
}

#[test]
fn runs_of_slashes_are_one_slash() {
    for (path, merged) in [("//", "/"), ("/a///b//", "/a/b/"), ("/a/b", "/a/b")] {
        assert_eq!(merge_slashes(path), merged);
    }
}

#[test]
fn a_rule_may_name_what_is_normal_and_means_one_thing() {
    for plain in ["/", "/a", "/a/b/", "/a.b/c_d", "/%C3%A9"] {
        assert!(is_plain(plain), "{plain}");
    }
    for other in
        ["", "a", "/a//b", "/a/./b", "/a/..", "/%61", "/%c3%a9", "/a%2Fb", "/a%5Cb", "/a%25b", "/a;b", "/%"]
    {
        assert!(!is_plain(other), "{other}");
    }
}

proptest! {
    #[test]
    fn a_normal_path_stays_as_it_is(path in "/([./a%é {]|%[0-9a-fA-F]{2}){0,12}") {
        if let Ok(once) = normalise(&path) {
            prop_assert!(matches!(normalise(&once), Ok(Cow::Borrowed(twice)) if twice == once), "{once}");
        }
    }

    #[test]
    fn a_normal_path_has_no_dot_segment_however_it_was_written(path in "/(\\.|%2e|%2E|/|%2f|a){0,12}") {
        let normal = normalise(&path).unwrap();
        prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{normal}");
        prop_assert!(elements(&normal).eq(elements(&merge_slashes(&normal))), "{normal}");
    }

    #[test]
    fn plain_characters_are_never_changed(path in "(/[a-zA-Z0-9_~:@!$&'()*+,;=-]{1,4}){1,4}/?") {
        prop_assert!(matches!(normalise(&path), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn nothing_panics(path in ".*") {
        let _ = normalise(&path);
    }
}
