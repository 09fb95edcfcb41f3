//! Finds the versions of the C libraries, which have no function that returns them.

fn main() {
    for library in ["libmnl", "libnftnl"] {
        // The -sys crates link them. Without pkg-config the version is unknown.
        let found = pkg_config::Config::new().cargo_metadata(false).probe(library);
        let version = found.map(|library| library.version).unwrap_or_default();
        println!("cargo::rustc-env={}_VERSION={version}", library.to_uppercase());
    }
}
