package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

type ownedPort struct {
	Port
	owner string
}

// tries is how often a dump that changes interrupted is begun again. What the
// last one gave is used then: each of its elements was there.
const tries = 10

// owned reads the maps of ports. The library's own reader hides the error
// number and whether the dump was interrupted; both matter here.
func (t *Table) owned() ([]ownedPort, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: t.NetNS})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var owned []ownedPort
	for _, m := range t.sets().maps() {
		var some []ownedPort
		for range tries {
			var whole bool
			if some, whole, err = t.dump(conn, m.Name); err != nil || whole {
				break
			}
		}
		if errors.Is(err, syscall.ENOENT) { // no table, or no such map
			continue
		}
		if err != nil {
			return nil, err
		}
		owned = append(owned, some...)
	}
	return owned, nil
}

func (t *Table) dump(conn *netlink.Conn, set string) (ports []ownedPort, whole bool, err error) {
	e := netlink.NewAttributeEncoder()
	e.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
	e.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	attrs, err := e.Encode()
	if err != nil {
		return nil, false, err
	}
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	if err != nil {
		return nil, false, err
	}
	whole = true
	for _, m := range msgs {
		whole = whole && m.Header.Flags&netlink.DumpInterrupted == 0
		if len(m.Data) < 4 {
			continue
		}
		if err := eachElement(m.Data[4:], func(p ownedPort) { ports = append(ports, p) }); err != nil {
			return nil, false, fmt.Errorf("read %s: %w", set, err)
		}
	}
	return ports, whole, nil
}

// eachElement goes through a message: a list of elements, each with a key, a
// value and the comment that names the owner.
func eachElement(data []byte, f func(ownedPort)) error {
	list, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	for list.Next() {
		if list.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		list.Nested(func(elems *netlink.AttributeDecoder) error {
			for elems.Next() {
				elems.Nested(func(elem *netlink.AttributeDecoder) error {
					p, err := decodeElement(elem)
					if err == nil {
						f(p)
					}
					return err
				})
			}
			return nil
		})
	}
	return list.Err()
}

func decodeElement(elem *netlink.AttributeDecoder) (o ownedPort, err error) {
	elem.ByteOrder = binary.BigEndian
	var key, val []byte
	value := func(to *[]byte) func(*netlink.AttributeDecoder) error {
		return func(d *netlink.AttributeDecoder) error {
			for d.Next() {
				if d.Type() == unix.NFTA_DATA_VALUE {
					*to = d.Bytes()
				}
			}
			return nil
		}
	}
	for elem.Next() {
		switch elem.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			elem.Nested(value(&key))
		case unix.NFTA_SET_ELEM_DATA:
			elem.Nested(value(&val))
		case unix.NFTA_SET_ELEM_USERDATA:
			o.owner, _ = userdata.GetString(elem.Bytes(), userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		}
	}
	if err := elem.Err(); err != nil {
		return o, err
	}
	o.Port, err = port(key, val)
	return o, err
}
