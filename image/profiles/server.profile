# Physical servers, and virtual machines beside them. lab.profile says how a profile is written; cards.list has the PCI ids that
# an image of this profile must serve.

kernel linux-image-amd64
firmware free

virtio: what every virtual machine has
  required virtio_pci virtio_net virtio_blk
  virtio_mmio virtio_scsi virtio_rng virtio_console virtio_balloon

hypervisors: cards and disks of VMware, Hyper-V, Xen and the clouds
  vmxnet3 vmw_pvscsi vmw_balloon hv_vmbus hv_netvsc hv_storvsc hv_utils pci-hyperv xen-netfront xen-blkfront

ethernet: every wired card that the kernel drives; a rack is never of one make
  kernel/drivers/net/ethernet/
  # Switch chips: no server boots from one, and they are large.
  not mlxsw_* prestera* ocelot* mscc_ocelot*

ethernet-phy: transceivers that Ethernet drivers ask for by the ids of the hardware
  kernel/drivers/net/phy/ kernel/drivers/net/mdio/ kernel/drivers/net/pcs/

ethernet-parts: halves of cards that are modules of their own and bound through an auxiliary bus
  mlx4_en gve ena

usb-network: adapters, docks, and the link to a BMC that shows itself as USB Ethernet
  kernel/drivers/net/usb/
  # Modems of telephones.
  not hso sierra_net qmi_wwan cdc_mbim ipheth

links: VLAN, bonding, bridges and the pairs that actions make for networks of their own
  af_packet 8021q bonding bridge br_netfilter stp veth dummy tun macvlan ipvlan vxlan team team_mode_*

nft: actions filter packets and translate addresses
  nf_tables nft_* nf_conntrack nf_nat nf_reject_ipv4 nf_reject_ipv6 nf_log_syslog nfnetlink

nvme: disks on PCIe, and over TCP, RDMA and Fibre Channel
  required nvme
  kernel/drivers/nvme/host/

scsi: SAS and RAID controllers, Fibre Channel, iSCSI offload, and the disks, tapes and enclosures on them
  required sd_mod
  kernel/drivers/scsi/ kernel/drivers/message/fusion/
  # Test devices.
  not scsi_debug

ata: SATA controllers, also of chipsets that have no AHCI
  required ahci
  kernel/drivers/ata/
  not pata_pcmcia

usb-storage: sticks, virtual media of a BMC, and the buses that they hang on
  usb-storage uas kernel/drivers/usb/host/ kernel/drivers/usb/storage/

usb-keyboards: a person in the machine room, and the KVM of a BMC
  usbhid hid-generic hid

mmc: eMMC and SD of small servers
  kernel/drivers/mmc/

software-disks: RAID, LVM, encryption, multipath, loop and network block devices
  kernel/drivers/md/
  loop nbd
  not dm-vdo* bcache dm-log-userspace

hotplug: hubs of NVMe disks and Thunderbolt that appear later
  vmd thunderbolt

ipmi: the BMC's address and sensors
  kernel/drivers/char/ipmi/

tpm: measured boot and sealed keys
  kernel/drivers/char/tpm/

watchdogs: a machine that hangs starts again by itself
  iTCO_wdt sp5100_tco hpwdt wdat_wdt ipmi_watchdog softdog

filesystems: what is mounted on installed disks, media and data disks
  required ext4
  overlay xfs btrfs vfat exfat f2fs isofs udf squashfs erofs ntfs3 nfs nfsv4 efivarfs fuse
  # What vfat asks for by default, and its usual alternatives; without a modprobe the kernel cannot ask for them.
  nls_ascii nls_cp437 nls_iso8859-1 nls_utf8

crypto: checksums and ciphers that filesystems, RAID and encryption ask for by name
  crc32c_generic crc32c-intel crc32_generic crct10dif_* crc64* xxhash_generic aesni-intel xts cbc sha256_generic sha256-ssse3 essiv
