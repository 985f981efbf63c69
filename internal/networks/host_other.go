//go:build !linux

package networks

import "github.com/amphora-go/amphora/internal/fault"

func inode(string) (uint64, error) { return 0, fault.Unsupported("network namespaces need Linux") }

func links(string, string) ([]string, error) { return nil, nil }

// RemoveLink needs Linux.
func RemoveLink(string) error { return nil }
