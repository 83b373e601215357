# Virtual machines: Debian's cloud kernel and what the common emulators emulate.
#
# How a profile is written: `kernel` names the package, `firmware` what is taken without --firmware. A `family: reason` follows,
# and below it, indented, what it takes: names of modules (`*` stands for anything), folders of modules (they end with `/`), `not`
# before what is left out again, `required` before names without which the image is of no use. What a module depends on comes along.

kernel linux-image-cloud-amd64
firmware none

virtio: what every virtual machine has
  required virtio_pci virtio_net virtio_blk
  virtio_mmio virtio_scsi virtio_rng virtio_console

emulated: the disks and cards that emulators offer beside virtio
  nvme sd_mod ahci e1000 e1000e

filesystems: what is mounted on installed disks, and what the agent runs images in
  required ext4
  loop overlay xfs vfat efivarfs
  # What vfat asks for by default, and its usual alternatives; without a modprobe the kernel cannot ask for them.
  nls_ascii nls_cp437 nls_iso8859-1 nls_utf8

network: the boot NIC's sockets and tagged networks
  af_packet 8021q
