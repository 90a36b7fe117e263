"""What tests share: services in processes of their own, and a broker and a network that can be broken."""
