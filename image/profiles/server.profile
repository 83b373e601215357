# Physical servers, and virtual machines beside them. lab.profile says how a profile is written; cards.list has the PCI ids that
# an image of this profile must serve.

kernel linux-image-amd64
firmware free
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

intel-1g overlay, 540 kB: Intel's cards up to 2.5 Gb/s
  e100 e1000 e1000e igb igbvf igc

intel-10g overlay, 770 kB: Intel's X500, X700 and their virtual functions
  ixgbe ixgbevf i40e iavf

intel-100g overlay, 700 kB: Intel's E800 and E2000
  ice idpf

broadcom-1g overlay, 520 kB: BCM57xx of most servers' boards, and their transceivers
  tg3 bnx2 b44 bcm-phy-lib broadcom

broadcom-10g overlay, 700 kB: NetXtreme II 10 Gb and NetXtreme-E
  bnx2x bnxt_en

mellanox overlay, 980 kB: ConnectX-4 and later, BlueField
  mlx5_core

mellanox-3 overlay, 320 kB: ConnectX-3 and ConnectX-3 Pro
  mlx4_core mlx4_en

realtek overlay, 200 kB: RTL8111 to 8126, and the 8139, with their transceivers
  r8169 8139cp 8139too realtek

marvell overlay, 380 kB: Marvell and Aquantia, with their transceivers
  kernel/drivers/net/ethernet/marvell/ atlantic aquantia marvell marvell10g

amd overlay, 360 kB: AMD's own, old and new, and Pensando
  amd-xgbe pcnet32 amd8111e ionic

emulex overlay, 110 kB: OneConnect of many blades
  be2net

qlogic overlay, 840 kB: FastLinQ, QLogic 3000 and 8000, NetXen
  qede qed qlcnic netxen_nic qla3xxx

chelsio overlay, 650 kB: Terminators T1 to T6
  kernel/drivers/net/ethernet/chelsio/

solarflare overlay, 600 kB: SFC9000 and Falcon
  kernel/drivers/net/ethernet/sfc/

hypervisors overlay, 510 kB: the cards of VMware, Hyper-V, Xen and the clouds
  vmxnet3 hv_vmbus hv_netvsc pci-hyperv xen-netfront gve ena mana enic
  # Hyper-V boots from a DEC 21140 that it emulates, and has its own card when Linux runs.
  for 1011:0009

usb-network overlay, 1100 kB: adapters, docks, and the link to a BMC that shows itself as USB Ethernet, with the buses that they hang on
  kernel/drivers/net/usb/ kernel/drivers/usb/host/ realtek
  # Modems of telephones.
  not hso sierra_net qmi_wwan cdc_mbim ipheth

smart-cards overlay, 690 kB: Netronome, LiquidIO, Huawei: large drivers of few machines
  kernel/drivers/net/ethernet/netronome/ kernel/drivers/net/ethernet/cavium/ kernel/drivers/net/ethernet/huawei/

brocade overlay, 160 kB: Brocade's BR-1000 and 1860
  kernel/drivers/net/ethernet/brocade/

embedded overlay, 420 kB: ports of Intel's Elkhart Lake and of other boards for the field, and Microchip's
  kernel/drivers/net/ethernet/stmicro/ kernel/drivers/net/ethernet/microchip/

other-cards overlay, 1100 kB: every other wired card that the kernel drives; a rack is never of one make
  kernel/drivers/net/ethernet/
  # Switch chips: no server boots from one, and they are large. Cards for PCMCIA. cnic drives no card by itself: what offloads iSCSI needs
  # it, and brings it along.
  not mlxsw_* prestera* ocelot* mscc_ocelot* *_cs cnic

ethernet-phy fetched, 360 kB: transceivers that Ethernet drivers ask for by the ids of the hardware
  kernel/drivers/net/phy/ kernel/drivers/net/mdio/ kernel/drivers/net/pcs/

hypervisor-disks fetched, 160 kB: the disks and the memory of VMware, Hyper-V, Xen and virtio
  virtio_blk virtio_scsi virtio_console virtio_balloon vmw_pvscsi vmw_balloon hv_storvsc hv_utils xen-blkfront

bonding overlay, 180 kB: machines whose command line has bond=, which need it before they have a network
  bonding

links fetched, 420 kB: bridges and the pairs that actions make for networks of their own
  bridge br_netfilter stp veth dummy tun macvlan ipvlan vxlan team team_mode_*

nft fetched, 520 kB: actions filter packets and translate addresses
  nf_tables nft_* nf_conntrack nf_nat nf_reject_ipv4 nf_reject_ipv6 nf_log_syslog nfnetlink

nvme fetched, 270 kB: disks on PCIe, and over TCP, RDMA and Fibre Channel
  required nvme
  kernel/drivers/nvme/host/

scsi fetched, 5500 kB: SAS and RAID controllers, Fibre Channel, iSCSI offload, and the disks, tapes and enclosures on them
  required sd_mod
  kernel/drivers/scsi/ kernel/drivers/message/fusion/
  # Test devices.
  not scsi_debug

ata fetched, 1060 kB: SATA controllers, also of chipsets that have no AHCI
  required ahci
  kernel/drivers/ata/
  not pata_pcmcia

usb-storage fetched, 220 kB: sticks, virtual media of a BMC, and the buses that they hang on
  usb-storage uas kernel/drivers/usb/host/ kernel/drivers/usb/storage/

usb-keyboards fetched, 140 kB: a person in the machine room, and the KVM of a BMC
  usbhid hid-generic hid

mmc fetched, 430 kB: eMMC and SD of small servers
  kernel/drivers/mmc/

software-disks fetched, 1030 kB: RAID, LVM, encryption, multipath, loop and network block devices
  kernel/drivers/md/
  loop nbd
  not dm-vdo* bcache dm-log-userspace

hotplug fetched, 220 kB: hubs of NVMe disks and Thunderbolt that appear later
  vmd thunderbolt

ipmi fetched, 130 kB: the BMC's address and sensors
  kernel/drivers/char/ipmi/

tpm fetched, 80 kB: measured boot and sealed keys
  kernel/drivers/char/tpm/

watchdogs fetched, 50 kB: a machine that hangs starts again by itself
  iTCO_wdt sp5100_tco hpwdt wdat_wdt ipmi_watchdog softdog

filesystems fetched, 3650 kB: what is mounted on installed disks, media and data disks
  required ext4
  overlay xfs btrfs vfat exfat f2fs isofs udf squashfs erofs ntfs3 nfs nfsv4 fuse
  # What vfat asks for by default, and its usual alternatives.
  nls_ascii nls_cp437 nls_iso8859-1 nls_utf8

crypto fetched, 70 kB: checksums and ciphers that filesystems, RAID and encryption ask for by name
  crc32c_generic crc32c-intel crc32_generic crct10dif_* crc64* xxhash_generic aesni-intel xts cbc sha256_generic sha256-ssse3 essiv
