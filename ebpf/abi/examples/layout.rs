//! Prints the layout of every shared type: `layout.txt` is its output (`cargo xtask codegen`).
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

fn main() {
    println!("schema {}", weft_abi::SCHEMA);
    for layout in weft_abi::layout::all() {
        println!("{} {}", layout.name, layout.size);
        for field in layout.fields {
            println!("  {:<18} {:>4} {:>4}", field.name, field.offset, field.size);
        }
    }
}
