/* SPDX-License-Identifier: MIT */
#include "tools/signature.h"

#include <stdbool.h>
#include <string.h>

#include "format/superblock.h"

/* Where each puts its magic, as libblkid and file(1) know them. */
static const struct {
    uint32_t offset;
    uint8_t len;
    const char *magic;
    const char *name;
} signatures[] = {
    {0, 8, MAPFS_SUPERBLOCK_MAGIC, "a mapfs filesystem"},
    {4096, 8, MAPFS_SUPERBLOCK_MAGIC, "a mapfs filesystem"},
    {1080, 2, "\x53\xef", "an ext2, ext3 or ext4 filesystem"},
    {0, 4, "XFSB", "an xfs filesystem"},
    {65600, 8, "_BHRfS_M", "a btrfs filesystem"},
    {4120, 16, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "a bcachefs filesystem"},
    {1024, 4, "\x10\x20\xf5\xf2", "an f2fs filesystem"},
    {1024, 4, "\xe2\xe1\xf5\xe0", "an erofs filesystem"},
    {0, 4, "hsqs", "a squashfs filesystem"},
    {32769, 5, "CD001", "an ISO 9660 filesystem"},
    {32769, 5, "NSR02", "a UDF filesystem"},
    {32769, 5, "BEA01", "a UDF filesystem"},
    {3, 8, "NTFS    ", "an NTFS filesystem"},
    {3, 8, "EXFAT   ", "an exFAT filesystem"},
    {54, 3, "FAT", "a FAT filesystem"},
    {82, 5, "FAT32", "a FAT filesystem"},
    {32768, 4, "JFS1", "a JFS filesystem"},
    {65588, 6, "ReIsEr", "a ReiserFS filesystem"},
    {1030, 2, "\x34\x34", "a NILFS2 filesystem"},
    {4086, 10, "SWAPSPACE2", "swap space"},
    {0, 6, "LUKS\xba\xbe", "an encrypted (LUKS) volume"},
    {536, 8, "LVM2 001", "an LVM volume"},
    {4096, 4, "\xfc\x4e\x2b\xa9", "a RAID member"},
    {512, 8, "EFI PART", "a partition table (GPT)"},
    {510, 2, "\x55\xaa", "a partition table or boot sector"},
    {0, 4, "QFI\xfb", "a qcow2 disk image"},
    {0, 4, "KDMV", "a VMDK disk image"},
    {0, 8, "conectix", "a VHD disk image"},
    {0, 8, "vhdxfile", "a VHDX disk image"},
    {0, 4,
     "\x7f"
     "ELF",
     "a program"},
    {0, 2, "\x1f\x8b", "gzip data"},
    {0, 6,
     "\xfd"
     "7zXZ",
     "xz data"},
    {0, 4, "\x28\xb5\x2f\xfd", "zstd data"},
    {0, 4, "PK\x03\x04", "a zip archive"},
    {257, 5, "ustar", "a tar archive"},
    {0, 16, "SQLite format 3", "an SQLite database"},
};

/* Whether the image has these bytes there; they may lie on two blocks. */
static bool image_has(const MapfsImage *image, uint64_t offset, const char *bytes, size_t len) {
    const uint64_t first = offset / MAPFS_BLOCK_SIZE;
    const uint64_t last = (offset + len - 1) / MAPFS_BLOCK_SIZE;
    const uint8_t *block = mapfs_image_read(image, (MapfsRun){.start = {first}, .n_blocks = last - first + 1});

    return block && memcmp(block + offset % MAPFS_BLOCK_SIZE, bytes, len) == 0;
}

const char *mapfs_signature_lookup(const MapfsImage *image) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(signatures); i++)
        if (image_has(image, signatures[i].offset, signatures[i].magic, signatures[i].len))
            return signatures[i].name;
    return NULL;
}
