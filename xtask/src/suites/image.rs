//! A CD image that a PC boots from (El Torito): a program that says a line on the serial port.

const SECTOR: usize = 2048;
/// Where things lie, in sectors; that of the boot record is laid down.
const BOOT_RECORD: usize = 17;
const CATALOG: usize = 19;
const PROGRAM: usize = 20;
/// Sectors of the program, so that more than one has to be read.
const PROGRAM_SECTORS: usize = 4;
/// Where in the program the line stands.
const LINE: usize = 3 * SECTOR;
/// What QEMU's isa-debug-exit makes of the program's last word, 10h.
pub const EXIT_STATUS: i32 = 0x21;

/// The image.
pub fn bootable(line: &str) -> Vec<u8> {
    let mut image = vec![0; (PROGRAM + PROGRAM_SECTORS) * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // A boot record volume descriptor: type 0, version 1, and where the catalog is.
    put(BOOT_RECORD * SECTOR, b"\0CD001\x01EL TORITO SPECIFICATION");
    put(BOOT_RECORD * SECTOR + 0x47, &(CATALOG as u32).to_le_bytes());
    // The validation entry, of which the 16-bit words add up to 0, and the initial entry: bootable,
    // no emulation, this many sectors of 512 bytes, from there.
    put(CATALOG * SECTOR, &[0x01]);
    put(CATALOG * SECTOR + 0x1c, &[0xaa, 0x55, 0x55, 0xaa]);
    let sectors = (PROGRAM_SECTORS * SECTOR / 512) as u8;
    put(CATALOG * SECTOR + 0x20, &[0x88, 0, 0, 0, 0, 0, sectors, 0]);
    put(CATALOG * SECTOR + 0x28, &(PROGRAM as u32).to_le_bytes());
    let [low, high] = ((LINE - 3) as u16).to_le_bytes();
    let program = [
        0xe8, 0x00, 0x00, // call the next instruction,
        0x5e, // pop si: which is at 3
        0x0e, 0x1f, // push cs, pop ds
        0x81, 0xc6, low, high, // add si, the line's distance from it
        0xfc, // cld
        0xac, // lodsb
        0x84, 0xc0, 0x74, 0x06, // test al, al; jz behind the loop
        0xba, 0xf8, 0x03, 0xee, // mov dx, 3f8h; out dx, al
        0xeb, 0xf5, // jmp lodsb
        0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, // mov dx, f4h; mov al, 10h; out dx, al
        0xf4, 0xeb, 0xfd, // hlt; jmp hlt
    ];
    put(PROGRAM * SECTOR, &program);
    put(PROGRAM * SECTOR + LINE, line.as_bytes());
    image
}
