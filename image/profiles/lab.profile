# Virtual machines: Debian's cloud kernel and what the common emulators emulate.
#
# How a profile is written: `kernel` names the package, `firmware` what is taken without --firmware, `budget` how many bytes, packed, the
# agent and the drivers in the initramfs may have: a test holds them to it. A `family: reason` follows,
# and below it, indented, what it takes: names of modules (`*` stands for anything), folders of modules (they end with `/`; what a
# family above has named is not taken again), `not` before what is left out again, `required` before names without which the image is
# of no use. What a module depends on comes along.
#
# A family lies in the initramfs of every machine (the base). `family overlay, N kB: reason` lies in an archive of its own, which a
# machine gets that boots from a card which one of its modules names, or that stands behind `for` (in a
# family of the base: that every machine has the driver of); the archive has at most so many
# bytes. `family fetched, N kB: reason` is fetched by the agent over HTTP when a device or the kernel asks for one of its modules; all
# of them, packed, have at most so many bytes.

kernel linux-image-cloud-amd64
firmware none
budget agent 3600 kB
budget base 150 kB

virtio: the network of virtual machines, and randomness
  required virtio_pci virtio_net
  virtio_mmio virtio_rng
  # Its two ids as a network card; a kernel that has virtio_pci built in does not say which cards it is for.
  for 1af4:1000 1af4:1041

network: the boot NIC's sockets and tagged networks
  af_packet 8021q

firmware-variables: the machine's boot order, and where its kernel keeps why it died
  efivarfs efi_pstore

emulated-cards overlay, 60 kB: the cards that emulators offer beside virtio
  e1000 e1000e vmxnet3

bonding overlay, 180 kB: machines whose command line has bond=, which need it before they have a network
  bonding

disks fetched, 420 kB: the disks of virtual machines
  required virtio_blk
  virtio_scsi virtio_console nvme sd_mod ahci

software-disks fetched, 700 kB: what the actions raid and luks make, and the checksums and ciphers that these ask for by name
  md-mod raid0 raid1 raid10 raid456 dm-mod dm-crypt xts essiv

own-networks fetched, 420 kB: actions with a network of their own
  veth nfnetlink nf_tables nft_chain_nat nft_masq

filesystems fetched, 1000 kB: what is mounted on installed disks, and what the agent runs images in
  required ext4
  loop overlay xfs vfat
  # What vfat asks for by default, and its usual alternatives; without a modprobe the kernel cannot ask for them.
  nls_ascii nls_cp437 nls_iso8859-1 nls_utf8
