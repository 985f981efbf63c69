package main

const (
	sysSetns        = 308
	sysBpf          = 321
	sysOpenByHandle = 304
	sysUserfaultfd  = 323
)
