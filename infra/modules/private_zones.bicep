// The private DNS zones of what is reached by private endpoints, known in one virtual network. They
// stay when a recovery's servers go.

import { tagsType } from '../types.bicep'

param names string[]
param networkId string
param tags tagsType

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for name in names: {
    name: name
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for name in names: {
    name: '${name}/${uniqueString(networkId)}'
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: networkId }
    }
    dependsOn: [zones]
  }
]

output groupId string = resourceGroup().id
