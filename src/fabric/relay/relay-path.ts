/** Where the daemon lets the command line read the memory of whole machines: a socket beside its region. */
export const memorySocketPathOf = (regionPath: string): string => `${regionPath}.memory.sock`
